"""An authority whose key lies in an encrypted PKCS #12 file."""
