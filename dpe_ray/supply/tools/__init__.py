"""What the agents of annotation can do to get or change an image: search the pool or the web, edit by operations."""
