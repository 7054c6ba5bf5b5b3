"""What tests work with: real servers, proxies, scripted servers, fakes, certificates, peers."""
