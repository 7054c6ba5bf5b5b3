"""What tests of programs around `nats_ev` use: `loop_conformance`. Nothing of it is loaded by the client."""
