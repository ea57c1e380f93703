"""The ``local`` launcher: servers, sites and jobs as processes of this machine."""
