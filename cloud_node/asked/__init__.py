"""What a request asks for, checked against what is served before anything is allocated; and the values it becomes."""
