"""One finetuning run on Ray: preflight, worker group, worker loop, progress, export task."""
