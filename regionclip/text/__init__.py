"""Language side: captions to concepts, concepts to prompts, prompts to text banks."""
