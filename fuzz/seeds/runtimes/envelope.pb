
¯Ï’Ødefault/tasks/start"'
containerd.events.TaskStart
3f1d\