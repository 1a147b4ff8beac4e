"""Strategies that stand clients which lie."""
