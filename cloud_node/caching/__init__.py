"""What is kept between requests, here or in Redis, and the answers that are on their way."""
