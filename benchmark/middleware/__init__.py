"""What Fast DDS does with connections and services, measured."""
