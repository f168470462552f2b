"""The web server: the socket, the ASGI app, and who may use the page."""
