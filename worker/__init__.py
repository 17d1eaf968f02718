"""The reservation worker: requests from RabbitMQ, decided in MongoDB, outcomes published."""
