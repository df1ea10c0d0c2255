"""Stand-ins for cloud services, shared by the laptop stack and Docker Compose."""
