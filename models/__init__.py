"""Networks, their training and their backtests."""
