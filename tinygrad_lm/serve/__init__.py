"""A model behind the address that programs for OpenAI's models know, and a page to talk with it."""
