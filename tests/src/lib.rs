//! The whole system under test: real clients, an emulator, faults; and the demo.
