"""The one durable store of the fine-tuning API: its tables, their migrations, ids, pages, leases."""
