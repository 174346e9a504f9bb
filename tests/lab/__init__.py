"""The lab: pods made of network namespaces, real programs inside them, and receivers that keep every byte."""
