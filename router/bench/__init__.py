"""The benchmark of routing: outcomes of every arm on every task, and what any policy makes of them."""
