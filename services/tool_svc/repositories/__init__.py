"""PostgreSQL: tables, queries, the unit of work."""
