"""The HTTP service: one process, worker threads, the engines of the library. Start it with `ttt-router serve`."""
