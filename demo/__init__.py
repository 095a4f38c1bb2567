"""The demo: plays frames through the live node over DDS, records a bag and writes a report."""

# Before libraries with telemetry, see `ros_ood_perception.telemetry`.
import ros_ood_perception as ros_ood_perception
