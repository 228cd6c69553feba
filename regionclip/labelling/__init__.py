"""What labels regions: proposals, the teacher's views, the labelling loop, and how well the teacher reads."""
