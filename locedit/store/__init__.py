"""What lies on disk: tables, files, downloads, hashes."""
