"""`/v1/batches`: files of requests that are answered on idle capacity, each request once."""
