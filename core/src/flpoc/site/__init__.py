"""The site agent: holds the site's key, enforces its policy, starts trainers."""
