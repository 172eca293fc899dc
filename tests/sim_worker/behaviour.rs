//! What no capture holds: stamps, queues, aborts, disconnects, faults, connections.
