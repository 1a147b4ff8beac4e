"""Servers and sites as processes of their own: credentials, and a deployment on one machine."""
