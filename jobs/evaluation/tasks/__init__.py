"""Models measured on the tasks of lm-evaluation-harness (the package lm_eval); only this folder imports it."""
