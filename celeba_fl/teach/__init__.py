"""Labels by a teacher: a vision model behind an OpenAI-compatible endpoint sees the images."""
