"""Publish stored values: MQTT with Home Assistant, farmOS, NGSI-LD, SensorThings."""
