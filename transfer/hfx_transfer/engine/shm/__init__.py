"""The shm backend: memory that processes of one host share."""
