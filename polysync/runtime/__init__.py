"""The world: sockets, threads and time. It moves bytes and decides nothing."""
