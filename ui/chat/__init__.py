"""The Chat tab: conversations with one model, from what is typed to what is drawn."""
