"""Numbers that published code has computed once, and what makes them."""
