"""The exact search: graphs and limits in, the best sides and a bound out."""
