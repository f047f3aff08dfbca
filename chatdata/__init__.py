"""The application's side of the chat data tier: models, repositories on PostgreSQL, stores on Redis."""
