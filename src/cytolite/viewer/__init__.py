"""`cytolite view`: results in the browser, served on this machine's own address. Needs the extra `viewer`."""
