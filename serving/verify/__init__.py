"""What a release looks at before it trusts a model bundle or a running server."""
