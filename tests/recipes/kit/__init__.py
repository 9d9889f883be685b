"""What the recipes share: the page, the tool's installation, the services, the sidecar, the faults and the verdict."""
