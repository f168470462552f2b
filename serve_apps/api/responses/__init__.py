"""/v1/responses: its requests as chats, its answers as items and events, and their storage."""
