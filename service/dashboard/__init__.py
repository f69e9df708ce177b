"""The dashboard: pages rendered on the server, and custom elements for what changes while one looks at it."""
