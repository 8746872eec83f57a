"""Turns runs into a page that people read: Markdown tables and plots."""
