"""The demo world: a generated world of coloured shapes that needs no download."""
