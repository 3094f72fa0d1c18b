
3f1d4e0c52a9
nerdctl/nameweb docker.io/library/busybox:latest*:
types.containerd.io/Spec{"process":{"args":["sleep"]}}