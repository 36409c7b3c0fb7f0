"""The server behind the pages: what it imports before it listens, whom it answers, and how it ends."""
