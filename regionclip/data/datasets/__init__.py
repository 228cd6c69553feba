"""What a loader reads: detection sets, captioned pictures with regions, pairs, resumable streams."""
