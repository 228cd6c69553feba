"""What makes or fills a workspace: fetched public sets, converted and own data, the params for them."""
