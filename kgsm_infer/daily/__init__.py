"""Moisture on every day: rain model, filter with passes, outlook, farm units.

parameters  the numbers of the model, read from JSON     bucket    moisture from rain alone
filter      Kalman filter of all paddocks                 smoother  the same for archives
run         rain model and filter over a period           values    passes as files have them
forcing     rain and irrigation on the days               daily     estimate: the entrance
events      possible irrigation                           root_zone, crops  water below
units, percentiles  what a farm asks                      table, command  files out and in
"""
