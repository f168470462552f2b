"""The formats of dataset rows: recognised by their columns, converted to chats without losing a value."""
