"""`/v1/evals`: testing criteria, and runs that grade the rows of a file and what served models answer to them."""
