"""The whole study on Ray: prepare, plan, run, test."""
