"""Sample calls and reviews, and the scripts that made them."""
