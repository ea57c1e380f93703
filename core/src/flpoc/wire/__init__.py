"""What crosses a process boundary: messages, handshake, channels, transfers."""
